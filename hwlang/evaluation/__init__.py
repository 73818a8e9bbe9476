"""`hw eval`: suites of problems, ways to work on them, and what came out.

problems        small problems that can be made by the thousand          countdown   sums to a target
suites          what is asked, from those or from a file                 answers     when an answer is right
collisions      two workers made to do the same
configurations  the ways to work: layouts, workers, sync prompts, budgets
evaluation      from a command's options to a table
runner          runs what is missing, many runs side by side             weights     which model it was
records         the lines of `runs.jsonl`
attempts        what the workers of a run did, read from its events      scoring     what that was worth
metrics         the figures of a configuration, made into a table and a plot
"""
