"""What `hwlang.checker` is made of, to be read in this order:

programs       one program; what is in it is checked by the modules below
crew           its workers as lowering reads them
workers        the workers and what each does        views      what they see
rules          triggers and actions                  texts      what fills the holes
names          what is declared and used             clauses    what is wrong whatever is around it, with regexes
casecheck      tests of programs                     files      what a program may read
consequences   what only follows from a slip in the syntax
"""
