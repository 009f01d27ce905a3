"""The engine: a request becomes runs, which are learned once and asked any number of questions."""
