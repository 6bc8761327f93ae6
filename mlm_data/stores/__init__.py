"""Where files lie: folders on a disk or in a bucket, and the one way in which a file appears."""
