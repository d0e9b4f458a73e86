"""What is wrong with this machine, said before a job says it. Nothing here needs a lab that can be opened."""
