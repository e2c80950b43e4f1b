"""Pure renderers: records in, text out. They import next to nothing, because `pmx ls` waits for them."""
