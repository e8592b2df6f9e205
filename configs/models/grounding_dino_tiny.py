"""The smallest text-prompted model that has every part, in the MM form, for tests."""

from .cqdino_tiny import model as cqdino_tiny
from .mm_grounding_dino import model

model.backbone = cqdino_tiny.backbone
model.neck = cqdino_tiny.neck
model.categories.language_model.update(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
)
model.encoder.num_layers = 2
model.encoder.image_layer.update(num_heads=4, hidden_dim=48)
model.encoder.exchange.attention_dim = 32
model.encoder.slot_layer.update(num_heads=2, hidden_dim=48)
model.query_selection.num_queries = 20
model.decoder.update(num_layers=2, num_heads=4, hidden_dim=48)
model.denoising.num_queries = 12
