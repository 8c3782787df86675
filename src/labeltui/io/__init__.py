"""Files of any kind: reading what others made, and writing so that a crash leaves the old file or the new one.

::

    files        untrusted files: regular ones only, never waited for, never written through a link
    atomic       files that appear complete or not at all
    tables       delimited text: encoding, delimiter, quotes
    h5_writer    HDF5 files with the same bytes for the same input
    h5_reader    HDF5 files as views
    names        lists of byte strings as arrays

HDF5 is fast and not safe against a crash while it is being written. So a file is written under a temporary name beside
its final one, flushed to the disk, renamed, and never touched again. Every dataset is contiguous and starts at a
multiple of 64 bytes, so that a reader maps it into memory, and opening an audit of a million samples reads a few pages.
"""
