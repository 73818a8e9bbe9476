"""Recorded runs as pages: one HTML file each, that shows what every worker saw in any pass, without a network.

facts       what a page has to know of a run, as JSON: blocks, views, passes, steps, marks
page        the file: page.html with view.css, fold.js, timeline.js, view.js and the facts in it
"""
