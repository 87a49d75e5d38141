"""DDict and Queue over many nodes: the stores over Valkey or Redis, one server or a cluster.

    address     a URL, taken apart; what of it may be shown
    servers     one server or a cluster: sends a command to where its bucket lies
    functions   the library of functions that the servers run, in lua/
    records     how an entry is written as one field of a hash
    life        who has a store open, and who removes it
    dict_store  DictStore; transactions.py: its transactions
    queue_store QueueStore
    watches     waiting: sharded publish and subscribe

A dictionary is 64 *buckets*.  The keys of a bucket have one hash tag, so they lie in one slot, and
a function may touch them all:

    alamo:{<id>/<bucket>}           hash: encoded key -> record
    ...:kept                        hash: encoded key -> the pickled key, where that is another
    ...:ttl                         sorted set: encoded key -> end in ms of the server's clock
    ...:parts                       hash: encoded key -> id, number and bytes of its parts
    ...:<id of parts>:<n>           string: a part of a value above 256 KB
    ...:state                       "frozen" or "gone"
    ...:waits                       there while somebody waits for a key of this bucket

Five of them are there only when they are needed, and one EXISTS tells a put that none is.
"""
