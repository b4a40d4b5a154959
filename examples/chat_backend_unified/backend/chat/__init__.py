"""The conversation: a model, its tools, and the graph that joins them."""
