"""From maps to pictures: colours, contact sheets, the file of the viewer."""
