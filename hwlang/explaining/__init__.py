"""`hw explain FILE`: what a program will do, to be read in this order:

overview       what every worker sees, and what happens when, as plain data
wording        triggers, actions and texts in plain words
headroom       how many tokens its texts are         arrays     the plan of one pass
tables         all of it on paper
"""
