"""Score models: requests, the prefix trie, suites, few-shot prompts."""
