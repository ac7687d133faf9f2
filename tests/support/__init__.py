"""What tests of several rooms share: accounts, mounts, a proxy that counts and lies. No test lives here."""
