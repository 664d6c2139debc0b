"""From maps to what people look at: colours, contact sheets, the file of the viewer."""
