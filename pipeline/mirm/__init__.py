"""The MIRM (paper 3.3): a multimodal LLM that turns an item's picture and words into one vector.

Read in this order: `backbone` (a published checkpoint, or `tiny`), `pictures` and `prompt` (an item becomes tokens),
`batch` (examples become tensors), `tasks` and `finetune` (IT, SA, UB), `folder` (what data/mirm holds), `embed`,
`once`, `cache`, `shards`, `conditioning` (every item becomes a vector, once).
"""
