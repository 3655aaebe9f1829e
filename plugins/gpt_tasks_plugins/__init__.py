"""The plugins that come with gpt-tasks, found through the same entry-point group as anybody's."""
