"""How a training runs; recipes override single fields.

This is the one place where the switches are explained. A length is a number of iterations, or of
epochs as text: "24ep" is ceil(24 * records of the dataset / images per iteration) iterations. An
iteration is one update of the weights with ``dataloader.train.total_batch_size`` images, over all
processes and parts. Image-level batches come on top: with one after every other batch an epoch is
twice as many iterations.
"""

train = dict(
    output_dir="output",  # one run at a time
    seed=0,  # data order, initial weights and every random draw follow from it
    datasets_root=None,  # folder of the datasets; null: $DETECTRON2_DATASETS, else ./datasets
    device="auto",  # cuda where there is a GPU, else cpu
    init_checkpoint="",  # start from these weights (or evaluate them)
    category_embeddings=None,  # file of text features to start the category embeddings from
    # parts whose weights stay as they are, e.g. [backbone,categories.language_model]; "." is the
    # whole model, from which `trained` takes parts out again: the longest name wins
    frozen=[],
    trained=[],
    max_iter=90000,  # length
    # optimizer.lr is meant for N images per iteration and is scaled linearly to
    # total_batch_size; null: it is taken unchanged
    base_batch_size=None,
    # the whole model under autocast in training: bf16, fp16 (with a loss scaler), or auto: bf16
    # where the processor is faster in it, else float32. model.inference_dtype does it in
    # inference; inside both, model.autocast_dtype decides for backbone and neck
    amp=dict(enabled=False, dtype="auto"),
    # every process puts its share of a batch through the model in N parts: less memory, the
    # same update (denoising noise is drawn, and batch norms count, part by part)
    accumulate=1,
    # blocks that keep only their inputs and are computed again in the backward pass: names in
    # which * is one part. Swin: [backbone.body.*.blocks.*, encoder.*.*, decoder.layers.*]
    activation_checkpointing=[],
    # torch.compile: parts by name, e.g. [backbone,neck]. These and tokenizer, categories and
    # selection are one graph each; encoder, query_selection and decoder work in pieces; "." (the
    # whole model) works, but compiles for long. A backbone compiles anew for new image sizes
    compile=dict(parts=[], backend="inductor", dynamic=None),
    clip_grad=dict(max_norm=0.1),  # null: no clipping
    ddp=dict(sync_buffers=False, find_unused_parameters=False),
    # with several processes each keeps the optimizer's state of a share of the parameters (ZeRO
    # stage 1); for large vocabularies. Checkpoints are the same
    shard_optimizer=False,
    # moving average of the weights (a second copy of the model): it is evaluated and exported
    ema=dict(enabled=False, decay=0.9998),
    checkpointer=dict(period=5000, max_to_keep=2),  # length
    # model_best.pth: the weights with the best figure of an evaluation so far, max or min;
    # metric null: none is kept
    best=dict(metric="bbox/AP", mode="max"),
    eval_period=5000,  # length; 0: at the end only
    log_period=20,
    # what is printed: losses (all of them, by Detectron2), or short (step, loss, pace, time left)
    progress="losses",
    log_window=20,  # metrics.json and TensorBoard show the median over N steps
    wandb=dict(project=None),  # a name logs to Weights & Biases too; other arguments of its init
)
