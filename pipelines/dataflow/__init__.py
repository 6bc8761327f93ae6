"""Builds on Google Cloud Dataflow: the workers' image, and a Flex Template that starts a build from it."""
