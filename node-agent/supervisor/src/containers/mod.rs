//! Containers of attempts: `startdocker` options and policy, mounts, identity, and the door.
