//! Devices, routes and neighbours over rtnetlink.
