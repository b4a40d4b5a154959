"""What is on the search path of a rehearsed suite's Python processes: `opened.py` says why.

Everything but the names runs in the application's interpreter and imports nothing of ours.
"""
