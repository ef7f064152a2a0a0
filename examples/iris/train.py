"""Train a small neural network on Fisher's iris measurements: real learning, a few seconds, only numpy.

Scalars (loss and accuracy of both halves of the data), hyper-parameters that ClearML can override, and the trained
weights with a confusion matrix as artifacts.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from clearml import Task


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measurements (standardised) and species of the training half and the test half."""
    table = np.loadtxt(Path(__file__).with_name("iris.csv"), delimiter=",", skiprows=1)
    order = np.random.default_rng(seed).permutation(len(table))
    features = (table[:, :4] - table[:, :4].mean(0)) / table[:, :4].std(0)
    species = table[:, 4].astype(int)
    half = len(order) // 2
    return features[order[:half]], species[order[:half]], features[order[half:]], species[order[half:]]


def forward(weights: list[np.ndarray], features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer and the probability of each species."""
    hidden = np.tanh(features @ weights[0] + weights[1])
    scores = hidden @ weights[2] + weights[3]
    likely = np.exp(scores - scores.max(1, keepdims=True))
    return hidden, likely / likely.sum(1, keepdims=True)


def judge(weights: list[np.ndarray], features: np.ndarray, species: np.ndarray) -> tuple[float, float]:
    """Cross-entropy and share of right answers."""
    _, likely = forward(weights, features)
    right = likely[np.arange(len(species)), species]
    return float(-np.log(right + 1e-12).mean()), float((likely.argmax(1) == species).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=12)
    parser.add_argument("--rate", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=7)
    task = Task.init(project_name="podstrap", task_name="iris")
    options = parser.parse_args()

    print(f"first line at {time.time():.3f}: {options.epochs} epochs, {options.hidden} hidden units", flush=True)
    train_x, train_y, test_x, test_y = load(options.seed)
    random = np.random.default_rng(options.seed)
    weights = [
        random.normal(0, 0.5, (4, options.hidden)),
        np.zeros(options.hidden),
        random.normal(0, 0.5, (options.hidden, 3)),
        np.zeros(3),
    ]
    logger = task.get_logger()
    for epoch in range(options.epochs):
        for batch in np.array_split(random.permutation(len(train_y)), 5):
            hidden, likely = forward(weights, train_x[batch])
            error = (likely - np.eye(3)[train_y[batch]]) / len(batch)
            back = error @ weights[2].T * (1 - hidden**2)
            steps = [train_x[batch].T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
            weights = [weight - options.rate * step for weight, step in zip(weights, steps, strict=True)]
        for series, features, species in (("train", train_x, train_y), ("test", test_x, test_y)):
            loss, accuracy = judge(weights, features, species)
            logger.report_scalar("loss", series, value=loss, iteration=epoch)
            logger.report_scalar("accuracy", series, value=accuracy, iteration=epoch)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: test loss {loss:.3f}, accuracy {accuracy:.3f}", flush=True)
        time.sleep(0.03)  # long enough to watch the charts grow

    _, likely = forward(weights, test_x)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (test_y, likely.argmax(1)), 1)
    task.upload_artifact("confusion", confusion.tolist())
    np.savez("weights.npz", *weights)
    task.upload_artifact("weights", "weights.npz")
    print(f"final test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
