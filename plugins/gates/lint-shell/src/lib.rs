//! Finds errors of syntax in shell scripts, as bash reads them; `#!/bin/sh` scripts are read as POSIX shells read them. The engine is
//! the parser of brush; what it refuses and the grammar of tree-sitter reads (`select`, `case` within `$( )`) is no error.

use std::ops::Range;

use brush_parser::ast::{Command, CompoundCommand, CompoundList, CompoundListItem, Program};
use brush_parser::word::{self, WordPiece, WordPieceWithSource};
use brush_parser::{ParseError, Parser, ParserOptions, Token};
use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};
use tree_sitter::{Node, Tree};

sandhog_guest::gate!(check);

/// Words that are of the language where a command could stand.
const RESERVED: &[&str] = &["then", "else", "elif", "fi", "do", "done", "esac", "in", "}"];
/// Shells whose scripts nobody reads here.
const OTHER_SHELLS: &[&str] = &["zsh", "fish", "csh", "tcsh"];

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| Ok(lint(path, text)))
}

fn lint(path: &str, text: &str) -> Vec<Finding> {
    let first = text.lines().next().unwrap_or_default();
    let is_sh = first.starts_with("#!") && first.split(['/', ' ']).any(|word| word == "sh" || word == "dash");
    if first.starts_with("#!") && first.split(['/', ' ']).any(|word| OTHER_SHELLS.contains(&word)) {
        return Vec::new();
    }
    let syntax = |message: String, place: (u32, u32)| Finding::new("syntax", Severity::High, message).spanning(path, place, place);
    if let Some(at) = text.find("\r\n") {
        let message =
            "the lines end with a carriage return, which shells take for a part of each last word; end them with a line feed alone";
        return vec![syntax(message.to_owned(), LineIndex::new(text).place(at))];
    }
    let options = ParserOptions { sh_mode: is_sh, ..ParserOptions::default() };
    let error = match Parser::new(std::io::Cursor::new(text), &options).parse_program() {
        Ok(program) => {
            let message = |word: &str| format!("`{word}` stands where a command has to stand: there is nothing that it belongs to");
            let within = |place| syntax("a command within this word does not read".to_owned(), place);
            let misplaced = misplaced(&program).into_iter().map(|(word, place)| syntax(message(word), place));
            return misplaced.chain(unread(text, &options).into_iter().map(within)).collect();
        }
        Err(error) => error,
    };
    if let Some(tree) = tree(text) {
        let lines = LineIndex::new(text);
        return amiss(&tree, text)
            .into_iter()
            .map(|(message, at)| Finding::new("syntax", Severity::High, message).over(path, &lines, at))
            .collect();
    }
    let (message, place) = match error {
        ParseError::ParsingNear(at) => ("this does not read as a command".to_owned(), Some((at.line, at.column))),
        ParseError::ParsingAtEndOfInput => ("the script ends within a command".to_owned(), None),
        ParseError::Tokenizing { inner, position } => (inner.to_string(), position.map(|at| (at.line, at.column))),
    };
    let place = match place {
        Some((line, column)) => (u32::try_from(line).unwrap_or(1).max(1), u32::try_from(column).unwrap_or(1).max(1)),
        None => LineIndex::new(text).place(text.trim_end().len()),
    };
    vec![syntax(message, place)]
}

/// Words of the language that brush took for commands.
fn misplaced(program: &Program) -> Vec<(&str, (u32, u32))> {
    let mut found = Vec::new();
    // Not by recursion: the depth is the file's to choose.
    let mut lists: Vec<&CompoundList> = program.complete_commands.iter().collect();
    let mut commands: Vec<&Command> = Vec::new();
    while !lists.is_empty() || !commands.is_empty() {
        for CompoundListItem(list, _) in lists.drain(..).flat_map(|list| &list.0) {
            commands.extend((list).into_iter().flat_map(|(_, pipeline)| &pipeline.seq));
        }
        for command in std::mem::take(&mut commands) {
            let compound = match command {
                Command::Simple(simple) => {
                    let word = simple.word_or_name.as_ref().filter(|word| simple.prefix.is_none() && RESERVED.contains(&&*word.value));
                    let place = word.and_then(|word| word.loc.as_ref()).map_or((1, 1), |at| (at.start.line as u32, at.start.column as u32));
                    found.extend(word.map(|word| (&*word.value, place)));
                    continue;
                }
                Command::Compound(compound, _) => compound,
                Command::Function(function) => &function.body.0,
                Command::ExtendedTest(..) => continue,
            };
            match compound {
                CompoundCommand::Arithmetic(_) => {}
                CompoundCommand::ArithmeticForClause(clause) => lists.push(&clause.body.list),
                CompoundCommand::BraceGroup(group) => lists.push(&group.list),
                CompoundCommand::Subshell(shell) => lists.push(&shell.list),
                CompoundCommand::ForClause(clause) => lists.push(&clause.body.list),
                CompoundCommand::CaseClause(clause) => lists.extend(clause.cases.iter().filter_map(|case| case.cmd.as_ref())),
                CompoundCommand::IfClause(clause) => {
                    lists.extend([&clause.condition, &clause.then]);
                    lists.extend(clause.elses.iter().flatten().flat_map(|part| part.condition.iter().chain([&part.body])));
                }
                CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => lists.extend([&clause.0, &clause.1.list]),
                CompoundCommand::Coprocess(process) => commands.push(&process.body),
            }
        }
    }
    found.sort_by_key(|(_, place)| *place);
    found
}

/// Where words are with a command in them that does not read: brush looks into words when it runs them.
fn unread(text: &str, options: &ParserOptions) -> Vec<(u32, u32)> {
    let has_command = |word: &str| word.contains("$(") || word.contains('`');
    let Some(tokens) = has_command(text).then(|| brush_parser::tokenize_str(text).ok()).flatten() else { return Vec::new() };
    let is_here = |at: usize| matches!(at.checked_sub(2).map(|at| &tokens[at]), Some(Token::Operator(word, _)) if word.starts_with("<<") && word != "<<<");
    let is_quoted = |at: usize| tokens[at - 1].to_str().contains(['\'', '"', '\\']);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word, span) = token else { continue };
        if !has_command(word) || (is_here(at) && is_quoted(at)) {
            continue;
        }
        let parse = if is_here(at) { word::parse_heredoc } else { word::parse };
        let scripts = parse(word, options).map(commands).unwrap_or_default();
        if !scripts.into_iter().all(|script| reads(script, options)) {
            found.push((span.start.line as u32, span.start.column as u32));
        }
    }
    found
}

/// The commands in a word.
fn commands(pieces: Vec<WordPieceWithSource>) -> Vec<String> {
    let (mut commands, mut rest) = (Vec::new(), pieces);
    while let Some(piece) = rest.pop() {
        match piece.piece {
            WordPiece::CommandSubstitution(script) => commands.push(script),
            // Its own signs stand after a backslash there.
            WordPiece::BackquotedCommandSubstitution(script) if !script.contains('\\') => commands.push(script),
            WordPiece::DoubleQuotedSequence(pieces) | WordPiece::GettextDoubleQuotedSequence(pieces) => rest.extend(pieces),
            _ => {}
        }
    }
    commands
}

/// Whether a command within a word reads.
fn reads(script: String, options: &ParserOptions) -> bool {
    match Parser::new(std::io::Cursor::new(&script), options).parse_program() {
        Ok(program) => misplaced(&program).is_empty() && unread(&script, options).is_empty(),
        Err(_) => tree(&script).is_some_and(|tree| amiss(&tree, &script).is_empty()),
    }
}

/// What tree-sitter makes of a script, if it reads all of it.
fn tree(text: &str) -> Option<Tree> {
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_bash::LANGUAGE.into()).ok()?;
    parser.parse(text, None).filter(|tree| !tree.root_node().has_error())
}

/// What tree-sitter lets through and no shell does: a word of the language where a command has to stand, and a part without a command.
fn amiss(tree: &Tree, text: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    let mut rest = vec![tree.root_node()]; // not by recursion: the depth is the file's to choose
    while let Some(node) = rest.pop() {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
        let is_command = |child: &Node<'_>| child.is_named() && child.kind() != "comment";
        // Between a word that opens and what closes it.
        let is_empty_after = |opening: &str| {
            let from = children.iter().position(|child| child.kind() == opening)?;
            let next = children[from + 1..].iter().find(|child| is_command(child) || child.kind() == "fi");
            next.is_none_or(|next| ["elif_clause", "else_clause", "fi"].contains(&next.kind())).then_some(children[from])
        };
        let empty = match node.kind() {
            "if_statement" | "elif_clause" => is_empty_after("then"),
            "else_clause" => is_empty_after("else"),
            "do_group" => is_empty_after("do"),
            "compound_statement" if text.as_bytes().get(node.start_byte()) == Some(&b'{') => is_empty_after("{"),
            "subshell" => is_empty_after("("),
            _ => None,
        };
        if let Some(opening) = empty {
            found.push((format!("no command stands after `{}`", opening.kind()), opening.byte_range()));
        }
        let after_brace = text.as_bytes().get(node.start_byte()..node.start_byte() + 2);
        if node.kind() == "compound_statement" && after_brace.is_some_and(|two| two[0] == b'{' && !two[1].is_ascii_whitespace()) {
            found.push(("`{` is a word of its own, behind which a space stands".to_owned(), node.start_byte()..node.start_byte() + 1));
        }
        if node.kind() == "subshell" && node.parent().is_some_and(|parent| parent.kind() == "command") {
            found.push(("a `(` stands within a command, where only words may".to_owned(), node.start_byte()..node.start_byte() + 1));
        }
        let of_case = |node: &Node<'_>| node.parent().is_some_and(|parent| parent.kind() == "case_item");
        if [";;", ";&", ";;&"].contains(&node.kind()) && !of_case(&node) {
            found.push((format!("`{}` stands outside of a `case`", node.kind()), node.byte_range()));
        }
        if node.kind() == "command_name" && node.prev_sibling().is_none() {
            let word = &text[node.byte_range()];
            if RESERVED.contains(&word) {
                found.push((
                    format!("`{word}` stands where a command has to stand: there is nothing that it belongs to"),
                    node.byte_range(),
                ));
            }
        }
        rest.extend(children);
    }
    found.sort_by_key(|(_, at)| at.start);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_shell_reads_is_found() {
        for script in [
            "fi\n",
            "if true; then\nfi\n",
            "while true; do\ndone\n",
            "f() {\n}\n",
            "if x; then echo; else fi\n",
            "echo a\ndone\necho b\n",
            "for i in 1; do\n  if x; then\n    echo\n  fi\n  fi\ndone\n",
            "esac\n",
            "else\n",
            "}\n",
            "then echo\n",
            "do echo; done\n",
            "in x\n",
            "echo\r\nif x; then\r\necho\r\nfi\r\n",
            "( )\n",
            "if a; then b; elif c; then\n# none\nfi\n",
            "echo hi;;\n",
            "case x in a) echo;; esac;;\n",
            "echo (a)\n",
            "foo(bar)\n",
            "print(\"x\")\n",
            "x=1; {echo; }\n",
            "if true; then {echo; }; fi\n",
            "x=$(fi)\n",
            "echo \"a $(echo $(if)) b\"\n",
            "x=`if`\n",
            "cat <<E\n$(fi)\nE\n",
            "f() { echo \"$(foo(bar))\"; }\n",
        ] {
            assert!(!lint("a.sh", script).is_empty(), "{script:?}: {:?}", tree(script).map(|tree| tree.root_node().to_sexp()));
        }
        for script in [
            "echo fi done\n",
            "x=fi\n$x\n\"fi\"\n\\fi\n",
            "if true; then\n  :\nelse\n  x=1\nfi\n",
            "while read -r line; do echo \"$line\"; done < file\n",
            "f() { # c\n  [[ a ]]\n}\n",
            "f() (\n  echo\n)\n",
            "((x++))\nfor ((i = 0; i < 3; i++)); do echo; done\n",
            "case x in\n  a) ;;\n  fi) echo ;;\nesac\n",
            "cat <<E\nfi\ndone\nE\n",
            "if x; then a=1; fi\nif x; then > file; fi\n",
            "for e in a; do\n  desc=\n  if [ a ]; then\n    b\n  fi\ndone\n",
            "time\n",
            "time",
            "cat <<'E'\n$(fi)\nE\n",
            "echo \"$(cat <<E\n\"a\"\nE\n)\" $(< file) $() $(( 1 + 2 )) \"`echo \\`echo\\``\"\n",
            "x=$(case a in a) echo;; esac)\n",
            "a=(1 2 $(echo))\ndeclare -a b=(1)\necho '$(fi)' \\$\\(fi\\)\n",
            "#!/bin/zsh\nfor x (a b) echo $x\n",
        ] {
            assert!(lint("a.sh", script).is_empty(), "{script:?}: {:?}", lint("a.sh", script));
        }
    }
}
