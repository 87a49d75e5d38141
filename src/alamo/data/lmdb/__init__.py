"""The embedded stores: memory-mapped files of LMDB that the processes of one machine share."""
