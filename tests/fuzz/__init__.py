"""
Fuzzing of parsers and state machines: C{make fuzz}. What once made one fail lies in
C{tests/fuzz/corpus}, and is tried again by the suite.
"""
