"""The language server, to be read in this order:

server         LSP on stdin and stdout; what it says is found by the others
index          what is at a place: symbols has every name of a file, importers the files that import it
completion     what may be written at a place        hover      what is said of it
fixes          what a help says to write, as an edit semantic   what the words are, for colours
positions      places as editors count them
"""
