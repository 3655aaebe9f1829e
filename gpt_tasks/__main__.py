"""`python -m gpt_tasks`, so that torchrun and accelerate can start the command line."""

from gpt_tasks.cli.main import main

if __name__ == "__main__":
    main()
