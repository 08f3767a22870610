"""Data sets that users have on their disks, read in the formats in which they are published; nothing is downloaded."""
