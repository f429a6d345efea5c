"""Solver options of the battery: unknown, of no value, ours, or such as write, read or print."""

OPTIONS = (
    ("highs", '{"presolv": "on"}', "did you mean 'presolve'"),
    ("highs", '{"presolve": "sometimes"}', "is not a value that highs takes"),
    ("highs", '{"presolve": null}', "is not a value that highs takes"),
    ("highs", '{"threads": 2}', "what the setting threads is for"),
    ("highs", '{"": 1}', "'' is unknown to highs"),
    *(
        ("highs", f'{{"{option}": "{{place}}/trace"}}', f"'{option}' of highs would change the program")
        for option in ("log_file", "solution_file", "write_model_file", "write_presolved_model_file", "read_basis_file")
    ),
    ("highs", '{"output_flag": true}', "read or printed"),
    *(
        ("scip", f'{{"{option}": "{{place}}/trace"}}', f"'{option}' of scip would change the program")
        for option in ("visual/vbcfilename", "visual/bakfilename", "concurrent/paramsetprefix")
    ),
    ("scip", '{"display/verblevel": 5}', "read or printed"),
    ("scip", '{"limits/nodess": 3}', "did you mean 'limits/nodes'"),
)
