#!/usr/bin/env bash
# Builds the documentation site into build/site. A warning is an error.
#
#   ./scripts/docs.sh
#   ./scripts/docs.sh --serve      # serves the site and rebuilds it after each change
#   ./scripts/docs.sh --update     # first writes the generated tables into the pages; needs TensorFlow, takes minutes
set -euo pipefail
cd "$(dirname "$0")/.."
# mkdocs-material would print a banner about MkDocs 2.
export NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}

# shellcheck source=scripts/environment.sh
. scripts/environment.sh
case ${1:-} in
    '')
        use_environment docs
        exec python -m mkdocs build --strict --quiet
        ;;
    --serve)
        use_environment docs
        exec python -m mkdocs serve --strict
        ;;
    --update)
        use_environment cpu,docs
        python benchmarks/model_table.py --markers=docs/models.md > /dev/null
        python -c '
from convzoo.cli.markdown import write_between
from convzoo.configs.schema import fields_table
write_between("docs/configuration.md", "fields", fields_table())'
        exec "$0"
        ;;
    *)
        echo "docs.sh: unknown argument $1; use --serve or --update" >&2
        exit 2
        ;;
esac
