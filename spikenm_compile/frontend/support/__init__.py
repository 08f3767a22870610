"""What the frontend reads, asked of its adapters: the tables of docs/frontends.md."""
