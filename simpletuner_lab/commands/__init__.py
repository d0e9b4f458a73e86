"""The commands of `stcloud` and `%stcloud`: one tree of words, one function each, and screens that show the answers."""
