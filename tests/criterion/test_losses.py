import torch
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from cqdino_d2.criterion import AsymmetricLoss, CategoryLoss, sigmoid_focal_loss
from cqdino_d2.structures import CategoryHierarchy, ImageTargets, Vocabulary


def test_focal_loss_agrees_with_torchvision():
    logits = torch.randn(5, 7)
    targets = (torch.rand(5, 7) < 0.3).float()
    expected = torchvision_focal_loss(logits, targets, alpha=0.25, gamma=2)
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets), expected)


def test_asymmetric_loss_by_hand():
    loss = AsymmetricLoss(gamma_negative=2.0, gamma_positive=1.0, clip=0.05)
    p = torch.tensor([0.8, 0.8, 0.03])
    value = loss(p.logit(), torch.tensor([1.0, 0.0, 0.0]))
    expected = [
        -(1 - 0.8) * torch.tensor(0.8).log(),
        -(0.75**2) * torch.tensor(0.25).log(),
        0.0,
    ]
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_focusing_weights_carry_no_gradient():
    logits = torch.tensor([0.3], requires_grad=True)
    AsymmetricLoss(gamma_negative=2.0)(logits, torch.zeros(1)).sum().backward()
    p = logits.detach().sigmoid()
    miss = 1 - (1 - p + 0.05)
    expected = miss**2 * p * (1 - p) / (1 - p + 0.05)
    torch.testing.assert_close(logits.grad, expected)


def tree_loss(**changes):
    # 0 -> 1 -> 2, 0 -> 3, and 4 alone
    hierarchy = CategoryHierarchy(5, [[], [0], [1], [0], []])
    vocabulary = Vocabulary(tuple("abcde"), tuple(range(5)), hierarchy)
    settings = dict(vocabulary=vocabulary, loss=AsymmetricLoss())
    return CategoryLoss(**(settings | changes))


def image(*vocab_ids):
    return ImageTargets(torch.zeros(len(vocab_ids), 4), torch.tensor(vocab_ids).long(), (1, 1))


def test_ancestors_of_present_categories_are_left_out():
    logits = torch.zeros(1, 5, requires_grad=True)
    tree_loss().of_logits(logits, [image(2)]).backward()
    gradient = logits.grad[0]
    assert gradient[0] == gradient[1] == 0, "ancestors of 2"
    assert gradient[2] < 0 and gradient[3] > 0 and gradient[4] > 0


def test_a_present_ancestor_is_positive():
    logits = torch.zeros(1, 5, requires_grad=True)
    tree_loss().of_logits(logits, [image(2, 0)]).backward()
    assert logits.grad[0, 0] < 0 and logits.grad[0, 1] == 0


def test_masked_categories_add_nothing_to_the_value():
    loss, single = tree_loss(), AsymmetricLoss()
    logits = torch.zeros(1, 5)
    expected = single(torch.zeros(1), torch.ones(1)) + 2 * single(torch.zeros(1), torch.zeros(1))
    torch.testing.assert_close(loss.of_logits(logits, [image(2)]), expected[0])


def test_images_per_process_makes_the_loss_a_mean():
    logits = torch.randn(4, 5)
    images = [image(2), image(4), image(), image(0, 3)]
    whole = tree_loss(images_per_process=2).of_logits(logits, images)
    plain = tree_loss().of_logits(logits, images)
    torch.testing.assert_close(whole, plain / 2)
    halves = [
        tree_loss(images_per_process=2).of_logits(logits[i : i + 2], images[i : i + 2])
        for i in (0, 2)
    ]
    torch.testing.assert_close(whole, sum(halves) / 2)


def test_image_labels_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    parents = [
        [] if i < 3 else torch.randperm(i, generator=generator)[: i % 3].tolist() for i in range(60)
    ]
    hierarchy = CategoryHierarchy(40, parents)  # nodes 40..59 are virtual
    vocabulary = Vocabulary(tuple(map(str, range(40))), tuple(range(40)), hierarchy)
    loss = tree_loss(vocabulary=vocabulary)
    images = [
        image(*torch.randint(0, 40, (count,), generator=generator).tolist())
        for count in (0, 1, 5, 2, 0)
    ]
    present, counted = loss.image_labels(images, 40)
    for row, (given, shown, known) in enumerate(zip(images, present, counted, strict=True)):
        classes, above, waiting = set(given.vocab_ids.tolist()), set(), given.vocab_ids.tolist()
        while waiting:
            above.update(parents[node := waiting.pop()])
            waiting += parents[node]
        assert set(shown.nonzero()[:, 0].tolist()) == classes, row
        assert set((~known).nonzero()[:, 0].tolist()) == {i for i in above - classes if i < 40}, row
    assert not counted.all()
    nothing = loss.image_labels([image(), image()], 40)
    assert not nothing[0].any() and nothing[1].all()
