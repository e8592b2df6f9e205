import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the toy detector and its config
sys.path.insert(1, str(Path(__file__).parents[2]))  # train_net
