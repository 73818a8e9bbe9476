"""The embedded model `tiny`: weights, tokenizer and model card, as package data."""
