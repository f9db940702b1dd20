"""Run folder -> what others are shown: figure, caption, page. No model is ever loaded here."""
