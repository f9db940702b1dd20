"""``demo``: the small trained network inside the package, and its preprocessing."""

from whycam.errors import UsageError
from whycam.models.loaded import Provenance
from whycam.models.preprocessing import Preprocessing
from whycam.models.source import Built, ModelOptions, ModelSource, refuse_other_channels
from whycam.models.weights import StateDict


def demo_source(name: str, options: ModelOptions) -> ModelSource:
    """Give the demo network. Raises UsageError for another number of classes; it has its own."""
    from whycam.demo import demo_metadata, demo_network

    refuse_other_channels(options, name)
    if options.num_classes is not None:
        raise UsageError("the demo network has its own classes; leave num_classes out")
    metadata = demo_metadata()
    class_names = tuple(metadata["classes"])
    height, width = metadata["input"][-2:]
    own = Preprocessing.for_size((height, width), metadata["mean"], metadata["std"])

    def build(num_classes: int | None) -> Built:
        return Built(demo_network(), own)

    def outline(num_classes: int | None) -> StateDict:
        return build(num_classes).module.state_dict()

    return ModelSource(
        build=build,
        outline=outline,
        unweighted=Provenance("demo"),
        default_classes=len(class_names),
        class_names=class_names,
        takes_weights=False,
    )
