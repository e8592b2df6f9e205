"""Counts images, so that engine tests need no annotations."""

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class ToyEvaluator(DatasetEvaluator):
    def reset(self):
        self.scores = []

    def process(self, inputs, outputs):
        self.scores += [float(output["instances"].scores[0]) for output in outputs]

    def evaluate(self):
        gathered = comm.gather(self.scores)
        if not comm.is_main_process():
            return {}
        scores = [score for part in gathered for score in part]
        return {"toy": {"images": len(scores), "score": sum(scores) / len(scores)}}
