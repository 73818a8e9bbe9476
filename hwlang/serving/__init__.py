"""`hw serve`: an engine behind HTTP, as SGLang's frontend asks for it, to be read in this order:

sglang_api     requests and replies, as frozen dataclasses with checked fields
generation     a request on the engine: what is cached of its text, its passes, its tokens
joins          texts that branches have written, put behind one another without being encoded again
voice          the text of tokens as they are sampled: where it ends, and how
server         the endpoints
"""
