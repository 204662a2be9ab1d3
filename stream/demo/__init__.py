"""The demo: a simulated shop, a broker and a worker, and one view of what goes in and what comes out."""
