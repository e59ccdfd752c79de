"""The paper's tables and its Figure 4, trained anew: each by one command."""
