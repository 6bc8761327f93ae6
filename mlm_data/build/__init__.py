"""The steps of a build, each a plain function with typed records between them. No Beam: `pipelines` spreads them."""
