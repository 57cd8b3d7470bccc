"""What tests share: servers that they start, Feast repos, messages, tables of profiles, a whole job."""
