"""What `hwlang.parser` is made of, to be read in this order:

grammar        what Lark makes of `grammar/hw.lark`, as plain data
lexer          text -> tokens
lalr           the tables, and walking them
builder        tokens -> nodes; what is between quotes: literals
recovery       reading on after slips: repairs tries them, syntax_errors and expected say what is wrong
"""
