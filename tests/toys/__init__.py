"""
Three engines of about a hundred lines that prove the contract between C{core} and
C{net}. They repeat nothing that was lost: the link under them must lose nothing.
"""
