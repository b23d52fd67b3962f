"""The examples run. test_readme.py looks at first_net.py, which stands in the README."""

from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_sonnets_are_learned_and_written(capsys):
    """With one epoch in place of five."""
    code = (EXAMPLES / "write_sonnets.py").read_text().replace("num_epochs=5", "num_epochs=1")
    names = {}
    exec(compile(code, "write_sonnets.py", "exec"), names)
    assert names["solver"].best_val_acc < 5  # bits a character; guessing takes log2(54) = 5.75
    said = capsys.readouterr().out.split("val_bits")[-1].split("\n", 1)[1]
    assert len(said) == 301
    assert set(said) <= set(names["vocabulary"].characters)
