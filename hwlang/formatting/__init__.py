"""Text in the one style, and nodes as text, to be read in this order:

formatter      source text -> formatted text
trivia         tokens with the comments between them, which the parser skips
marks          what tokens are to the layout         columns    what is put side by side
printer        syntax tree -> text
files          the files of `hw fmt`
"""
