"""How a training runs; recipes override single fields."""

train = dict(
    output_dir="output",
    seed=0,  # data order, initial weights and every random draw follow from it
    datasets_root=None,  # folder of the data sets; null: $DETECTRON2_DATASETS, else ./datasets
    device="auto",  # cuda where there is a GPU, else cpu
    init_checkpoint="",  # start from these weights (or evaluate them)
    category_embeddings=None,  # file of text features to start the category embeddings from
    max_iter=90000,
    amp=dict(enabled=False, dtype="bf16"),  # bf16 | fp16
    clip_grad=dict(max_norm=0.1),  # null: no clipping
    ddp=dict(sync_buffers=False, find_unused_parameters=False),
    ema=dict(enabled=False, decay=0.9998),
    checkpointer=dict(period=5000, max_to_keep=2),
    eval_period=5000,  # 0: at the end only
    log_period=20,
    log_window=20,  # metrics.json and TensorBoard show the median over so many steps
)
