"""--format: Go's text/template, as much of it as Docker's users write.

Source: Go's documentation of text/template. Fields, variables, pipelines, if/else, range, with,
break, continue, comments, trimming, the built-in functions and Docker's own. Named templates
(define, template, block) are refused by name.

    text ──[lexer]──> tokens ──[parser]──> nodes ──run(data)──> text
"""

from barque.cli.templates.lexer import TemplateError as TemplateError
from barque.cli.templates.nodes import ExecutionError as ExecutionError
from barque.cli.templates.parser import parse as parse
