"""The few words both halves share: names, labels, variables, exit codes, the claim, the last message.

The controller writes them into a Job, the bootstrap reads them inside the pod (and the other way round for the
claim and the termination message). Pure: standard library only, no I/O.
"""
