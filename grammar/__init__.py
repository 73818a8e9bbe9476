"""The grammar of hwlang as package data: `hw.lark` and the language reference."""
