# ruff: noqa: E501 - one line a source
r"""The entries that a report may cite, and BibTeX made of them.

A field that was not certain is left out. ``bibtex`` writes pure ASCII: accents as LaTeX has them, the
characters that LaTeX reserves escaped, and words with inner capitals in braces, so that no style makes them
small.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_RESERVED = {**{character: f"\\{character}" for character in "&%$#_"}, "\\": r"\textbackslash{}"}
_RESERVED |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "{": r"\{", "}": r"\}"}
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": "c "}
_INNER_CAPITAL = re.compile(r"[^\s:]*[^\s:(-][A-Z][^\s:]*|[^\s:]*\d[A-Z][^\s:]*")
_PROPER = {"Shapley", "Sobol-based"}


@dataclass(frozen=True)
class Entry:
    """A BibTeX entry; an author is "Family, Given", or in braces a name that is taken as it is."""

    kind: str
    authors: tuple[str, ...]
    title: str
    year: int | None
    more: Mapping[str, str] = field(default_factory=dict)


def _arxiv(title: str, year: int, number: str, *authors: str) -> Entry:
    return Entry("misc", authors, title, year, {"eprint": number, "archiveprefix": "arXiv"})


def _talk(title: str, year: int, where: str, *authors: str, **more: str) -> Entry:
    return Entry("inproceedings", authors, title, year, {"booktitle": where, **more})


_CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition"
_ICCV = "IEEE/CVF International Conference on Computer Vision"
_WACV = "IEEE Winter Conference on Applications of Computer Vision"
_NEURIPS = "Advances in Neural Information Processing Systems"
_ECCV = "European Conference on Computer Vision"
_BMVC = "British Machine Vision Conference"

ENTRIES: Mapping[str, Entry] = {
    "zhou2016cam": _talk("Learning Deep Features for Discriminative Localization", 2016, "IEEE Conference on Computer Vision and Pattern Recognition", "Zhou, Bolei", "Khosla, Aditya", "Lapedriza, Agata", "Oliva, Aude", "Torralba, Antonio"),
    "selvaraju2017gradcam": _talk("Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017, "IEEE International Conference on Computer Vision", "Selvaraju, Ramprasaath R.", "Cogswell, Michael", "Das, Abhishek", "Vedantam, Ramakrishna", "Parikh, Devi", "Batra, Dhruv", pages="618--626"),
    "chattopadhay2018gradcampp": _talk("Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks", 2018, _WACV, "Chattopadhay, Aditya", "Sarkar, Anirban", "Howlader, Prantik", "Balasubramanian, Vineeth N."),
    "omeiza2019smoothgradcampp": _arxiv("Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for Deep Convolutional Neural Network Models", 2019, "1908.01224", "Omeiza, Daniel", "Speakman, Skyler", "Cintas, Celia", "Weldermariam, Komminist"),
    "fu2020xgradcam": _talk("Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", 2020, _BMVC, "Fu, Ruigang", "Hu, Qingyong", "Dong, Xiaohu", "Guo, Yulan", "Gao, Yinghui", "Li, Biao"),
    "draelos2020hirescam": _arxiv("Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks", 2020, "2011.08891", "Draelos, Rachel Lea", "Carin, Lawrence"),
    "jiang2021layercam": Entry("article", ("Jiang, Peng-Tao", "Zhang, Chang-Bin", "Hou, Qibin", "Cheng, Ming-Ming", "Wei, Yunchao"), "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", 2021, {"journal": "IEEE Transactions on Image Processing", "volume": "30", "pages": "5875--5888"}),
    "cai2025shapleycam": _arxiv("CAMs as Shapley Value-based Explainers", 2025, "2501.06261", "Cai, Huaiguang"),
    "zhang2025finercam": _talk("Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation", 2025, _CVPR, "Zhang, Ziheng", "Gu, Jianyang", "Chowdhury, Arpita", "Mai, Zheda", "Carlyn, David", "Berger-Wolf, Tanya", "Su, Yu", "Chao, Wei-Lun", pages="9611--9620"),
    "muhammad2020eigencam": _talk("Eigen-CAM: Class Activation Map using Principal Components", 2020, "International Joint Conference on Neural Networks", "Muhammad, Mohammed Bany", "Yeasin, Mohammed"),
    "chung2025segeigencam": Entry("article", ("Chung, Ching-Ting", "Ying, Josh Jia-Ching"), "Seg-Eigen-CAM: Eigen-Value-Based Visual Explanations for Semantic Segmentation Models", 2025, {"journal": "Applied Sciences", "volume": "15", "number": "13", "pages": "7562", "doi": "10.3390/app15137562"}),
    "karmani2024kpcacam": _arxiv("KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA", 2024, "2410.00267", "Karmani, Sachin", "Sivakaran, Thanushon", "Prasad, Gaurav", "Ali, Mehmet", "Yang, Wenbo", "Tang, Sheyang"),
    "fuad2020fem": _talk("Features Understanding in 3D CNNs for Actions Recognition in Video", 2020, "International Conference on Image Processing Theory, Tools and Applications", "Fuad, Kazi Ahmed Asif", "Martin, Pierre-Etienne", "Giot, Romain", "Bourqui, Romain", "Benois-Pineau, Jenny", "Zemmari, Akka"),
    "collins2018dff": _talk("Deep Feature Factorization For Concept Discovery", 2018, _ECCV, "Collins, Edo", "Achanta, Radhakrishna", "Süsstrunk, Sabine"),
    "domeniconi2026refinecam": _arxiv("How to Evaluate and Refine your CAM", 2026, "2605.14641", "Domeniconi, Luca", "Stramiglio, Alessandra", "Lombardi, Michele", "Salti, Samuele"),
    "srinivas2019fullgrad": _talk("Full-Gradient Representation for Neural Network Visualization", 2019, _NEURIPS, "Srinivas, Suraj", "Fleuret, François"),
    "abnar2020rollout": _talk("Quantifying Attention Flow in Transformers", 2020, "Annual Meeting of the Association for Computational Linguistics", "Abnar, Samira", "Zuidema, Willem", pages="4190--4197"),
    "barkan2021gradsam": _talk("Grad-SAM: Explaining Transformers via Gradient Self-Attention Maps", 2021, "ACM International Conference on Information and Knowledge Management", "Barkan, Oren", "Hauon, Edan", "Caciularu, Avi", "Katz, Ori", "Malkiel, Itzik", "Armstrong, Omri", "Koenigstein, Noam", pages="2882--2887"),
    "chefer2021generic": _talk("Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers", 2021, _ICCV, "Chefer, Hila", "Gur, Shir", "Wolf, Lior"),
    "bousselham2024legrad": _arxiv("LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity", 2024, "2404.03214", "Bousselham, Walid", "Boggust, Angie", "Chaybouti, Sofian", "Strobelt, Hendrik", "Kuehne, Hilde"),
    "wang2020scorecam": _talk("Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", 2020, f"{_CVPR} Workshops", "Wang, Haofan", "Wang, Zifan", "Du, Mengnan", "Yang, Fan", "Zhang, Zijian", "Ding, Sirui", "Mardziel, Piotr", "Hu, Xia"),
    "wang2020sscam": _arxiv("SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization", 2020, "2006.14255", "Wang, Haofan", "Naidu, Rakshit", "Michael, Joy", "Kundu, Soumya Snigdha"),
    "naidu2020iscam": _arxiv("IS-CAM: Integrated Score-CAM for axiomatic-based explanations", 2020, "2010.03023", "Naidu, Rakshit", "Ghosh, Ankita", "Maurya, Yash", "Nayak K, Shamanth R.", "Kundu, Soumya Snigdha"),
    "zhang2023opticam": _arxiv("Opti-CAM: Optimizing saliency maps for interpretability", 2023, "2301.07002", "Zhang, Hanwei", "Torres, Felipe", "Sicre, Ronan", "Avrithis, Yannis", "Ayache, Stephane"),
    "zeiler2014visualizing": _talk("Visualizing and Understanding Convolutional Networks", 2014, _ECCV, "Zeiler, Matthew D.", "Fergus, Rob"),
    "petsiuk2018rise": _talk("RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018, _BMVC, "Petsiuk, Vitali", "Das, Abir", "Saenko, Kate"),
    "fel2021sobol": _talk("Look at the Variance! Efficient Black-box Explanations with Sobol-based Sensitivity Analysis", 2021, _NEURIPS, "Fel, Thomas", "Cadene, Remi", "Chalvidal, Mathieu", "Cord, Matthieu", "Vigouroux, David", "Serre, Thomas"),
    "fong2019extremal": _talk("Understanding Deep Networks via Extremal Perturbations and Smooth Masks", 2019, _ICCV, "Fong, Ruth", "Patrick, Mandela", "Vedaldi, Andrea"),
    "simonyan2013saliency": _arxiv("Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps", 2013, "1312.6034", "Simonyan, Karen", "Vedaldi, Andrea", "Zisserman, Andrew"),
    "shrikumar2016notjust": _arxiv("Not Just a Black Box: Learning Important Features Through Propagating Activation Differences", 2016, "1605.01713", "Shrikumar, Avanti", "Greenside, Peyton", "Shcherbina, Anna", "Kundaje, Anshul"),
    "smilkov2017smoothgrad": _arxiv("SmoothGrad: removing noise by adding noise", 2017, "1706.03825", "Smilkov, Daniel", "Thorat, Nikhil", "Kim, Been", "Viégas, Fernanda", "Wattenberg, Martin"),
    "adebayo2018local": _arxiv("Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values", 2018, "1810.03307", "Adebayo, Julius", "Gilmer, Justin", "Goodfellow, Ian", "Kim, Been"),
    "sundararajan2017integrated": _talk("Axiomatic Attribution for Deep Networks", 2017, "International Conference on Machine Learning", "Sundararajan, Mukund", "Taly, Ankur", "Yan, Qiqi", pages="3319--3328"),
    "erion2021expected": Entry("article", ("Erion, Gabriel", "Janizek, Joseph D.", "Sturmfels, Pascal", "Lundberg, Scott M.", "Lee, Su-In"), "Improving performance of deep learning models with axiomatic attribution priors and expected gradients", 2021, {"journal": "Nature Machine Intelligence", "volume": "3", "pages": "620--631"}),
    "xu2020blurig": _talk("Attribution in Scale and Space", 2020, _CVPR, "Xu, Shawn", "Venugopalan, Subhashini", "Sundararajan, Mukund"),
    "kapishnikov2021guidedig": _talk("Guided Integrated Gradients: An Adaptive Path Method for Removing Noise", 2021, _CVPR, "Kapishnikov, Andrei", "Venugopalan, Subhashini", "Avci, Besim", "Wedin, Ben", "Terry, Michael", "Bolukbasi, Tolga"),
    "springenberg2015striving": _talk("Striving for Simplicity: The All Convolutional Net", 2015, "International Conference on Learning Representations, Workshop Track", "Springenberg, Jost Tobias", "Dosovitskiy, Alexey", "Brox, Thomas", "Riedmiller, Martin"),
    "desai2020ablationcam": _talk("Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization", 2020, _WACV, "Desai, Saurabh", "Ramaswamy, Harish G."),
    "jung2021liftcam": _talk("Towards Better Explanations of Class Activation Mapping", 2021, _ICCV, "Jung, Hyungsik", "Oh, Youngrock", pages="1336--1344"),
    "byun2022reciprocam": _arxiv("Recipro-CAM: Fast gradient-free visual explanations for convolutional neural networks", 2022, "2209.14074", "Byun, Seok-Yong", "Lee, Wonju"),
    "byun2023vitreciprocam": _arxiv("ViT-ReciproCAM: Gradient and Attention-Free Visual Explanations for Vision Transformer", 2023, "2310.02588", "Byun, Seok-Yong", "Lee, Wonju"),
    "blucher2024decoupling": Entry("article", ("Blücher, Stefan", "Vielhaben, Johanna", "Strodthoff, Nils"), "Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks", 2024, {"journal": "Transactions on Machine Learning Research"}),
    "rong2022road": _talk("A Consistent and Efficient Evaluation Strategy for Attribution Methods", 2022, "International Conference on Machine Learning", "Rong, Yao", "Leemann, Tobias", "Borisov, Vadim", "Kasneci, Gjergji", "Kasneci, Enkelejda"),
    "zhang2018excitation": Entry("article", ("Zhang, Jianming", "Bargal, Sarah Adel", "Lin, Zhe", "Brandt, Jonathan", "Shen, Xiaohui", "Sclaroff, Stan"), "Top-Down Neural Attention by Excitation Backprop", 2018, {"journal": "International Journal of Computer Vision", "volume": "126", "number": "10", "pages": "1084--1102"}),
    "choe2020evaluating": _talk("Evaluating Weakly Supervised Object Localization Methods Right", 2020, _CVPR, "Choe, Junsuk", "Oh, Seong Joon", "Lee, Seungho", "Chun, Sanghyuk", "Akata, Zeynep", "Shim, Hyunjung"),
    "adebayo2018sanity": _talk("Sanity Checks for Saliency Maps", 2018, _NEURIPS, "Adebayo, Julius", "Gilmer, Justin", "Muelly, Michael", "Goodfellow, Ian", "Hardt, Moritz", "Kim, Been"),
    "agarwal2022rethinking": _arxiv("Rethinking Stability for Attribution-based Explanations", 2022, "2203.06877", "Agarwal, Chirag", "Johnson, Nari", "Pawelczyk, Martin", "Krishna, Satyapriya", "Saxena, Eshika", "Zitnik, Marinka", "Lakkaraju, Himabindu"),
    "chalasani2020concise": _talk("Concise Explanations of Neural Networks using Adversarial Training", 2020, "International Conference on Machine Learning", "Chalasani, Prasad", "Chen, Jiefeng", "Chowdhury, Amrita Roy", "Wu, Xi", "Jha, Somesh", pages="1383--1391"),
    "poppi2021revisiting": _talk("Revisiting The Evaluation of Class Activation Mapping for Explainability: A Novel Metric and Experimental Analysis", 2021, f"{_CVPR} Workshops", "Poppi, Samuele", "Cornia, Marcella", "Baraldi, Lorenzo", "Cucchiara, Rita", pages="2299--2304"),
    "bohle2021coda": _talk("Convolutional Dynamic Alignment Networks for Interpretable Classifications", 2021, _CVPR, "Böhle, Moritz", "Fritz, Mario", "Schiele, Bernt"),
    "rao2022towards": _talk("Towards Better Understanding Attribution Methods", 2022, _CVPR, "Rao, Sukrut", "Böhle, Moritz", "Schiele, Bernt"),
    "paszke2019pytorch": _talk("PyTorch: An Imperative Style, High-Performance Deep Learning Library", 2019, _NEURIPS, "Paszke, Adam", "Gross, Sam", "Massa, Francisco", "Lerer, Adam", "Bradbury, James", "Chanan, Gregory", "Killeen, Trevor", "Lin, Zeming", "Gimelshein, Natalia", "Antiga, Luca", "Desmaison, Alban", "Köpf, Andreas", "Yang, Edward", "DeVito, Zachary", "Raison, Martin", "Tejani, Alykhan", "Chilamkurthy, Sasank", "Steiner, Benoit", "Fang, Lu", "Bai, Junjie", "Chintala, Soumith"),
    "wightman2019timm": Entry("misc", ("Wightman, Ross",), "PyTorch Image Models", 2019, {"url": "https://github.com/huggingface/pytorch-image-models", "doi": "10.5281/zenodo.4414861"}),
    "torchvision2016": Entry("misc", ("{TorchVision maintainers and contributors}",), "TorchVision: PyTorch's Computer Vision library", 2016, {"url": "https://github.com/pytorch/vision"}),
    "wolf2020transformers": _talk("Transformers: State-of-the-Art Natural Language Processing", 2020, "Conference on Empirical Methods in Natural Language Processing: System Demonstrations", "Wolf, Thomas", "Debut, Lysandre", "Sanh, Victor", "Chaumond, Julien", "Delangue, Clement", "Moi, Anthony", "Cistac, Pierric", "Rault, Tim", "Louf, Rémi", "Funtowicz, Morgan", "{others}", pages="38--45"),
    "ilharco2021openclip": Entry("misc", ("Ilharco, Gabriel", "Wortsman, Mitchell", "Wightman, Ross", "Gordon, Cade", "Carlini, Nicholas", "Taori, Rohan", "Dave, Achal", "Shankar, Vaishaal", "Namkoong, Hongseok", "Miller, John", "Hajishirzi, Hannaneh", "Farhadi, Ali", "Schmidt, Ludwig"), "OpenCLIP", 2021, {"doi": "10.5281/zenodo.5143773"}),
    "whycam": Entry("misc", ("{The whycam authors}",), "whycam: why an image model decided what it decided", None),
}  # fmt: skip
"""By their citation keys, which stay what they are."""


def bibtex(keys: Iterable[str], versions: Mapping[str, str]) -> str:
    """Return the entries of these keys as a BibTeX file, each once, in alphabetical order.

    ``versions`` are the manifest's: that of whycam stands in whycam's own entry.
    """
    wanted = sorted(set(keys))
    return "\n".join(_entry(key, ENTRIES[key], versions) for key in wanted)


def _entry(key: str, entry: Entry, versions: Mapping[str, str]) -> str:
    fields = {"author": " and ".join(map(_author, entry.authors)), "title": _title(entry.title)}
    if entry.year is not None:
        fields["year"] = str(entry.year)
    fields |= {name: _value(name, value) for name, value in entry.more.items()}
    if key in versions:
        fields["note"] = f"Version {escaped(versions[key])}"
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{entry.kind}{{{key},\n{lines}}}\n"


def _author(name: str) -> str:
    if name == "{others}":
        return "others"  # BibTeX's own word for the rest of the authors
    return f"{{{escaped(name[1:-1])}}}" if name.startswith("{") else escaped(name)


def _title(title: str) -> str:
    return " ".join(map(_word, title.split(" ")))


def _word(word: str) -> str:
    bare = word.rstrip(":,!?")
    if _INNER_CAPITAL.fullmatch(bare) or bare in _PROPER:
        return f"{{{escaped(bare)}}}{word[len(bare) :]}"
    return escaped(word)


def _value(name: str, value: str) -> str:
    return value if name in ("doi", "eprint", "url") else escaped(value)


def escaped(text: str) -> str:
    r"""Return text that LaTeX prints as it is: ``é`` becomes ``{\'e}``, ``&`` becomes ``\&``.

    A character that LaTeX has no accent command for stays as it is, in UTF-8.
    """
    return "".join(map(_escaped, unicodedata.normalize("NFC", text)))


def _escaped(character: str) -> str:
    apart = unicodedata.normalize("NFD", character)
    if len(apart) == 2 and apart[1] in _ACCENTS:
        return f"{{\\{_ACCENTS[apart[1]]}{apart[0]}}}"
    return _RESERVED.get(character, character)
