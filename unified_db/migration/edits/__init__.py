"""One module per kind of edit: text in, text out, nothing written.

An edit keeps every byte that it is not about. It returns the text unchanged where the new
state is there already, so a second run does nothing, and raises EditError where neither the
old state nor the new one is found.
"""
