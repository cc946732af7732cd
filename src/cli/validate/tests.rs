use super::*;

#[test]
fn x() {
    let text = std::fs::read_to_string("/tmp/apicp/objs.json").unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let res: Vec<Vec<(String, String, String)>> = all.iter().map(|o| check(o).into_iter().map(|r| (r.field, r.kind.as_str().to_owned(), r.message)).collect()).collect();
    let parsed: Vec<String> = all.iter().map(|o| {
        if o["kind"] == "MessageContact" {
            match serde_json::from_value::<crate::api::MessageContact>(o.clone()) { Err(e) => format!("DE {e}"), Ok(mc) => match crate::api::parse::contact(&mc.spec) { Ok(_) => "ok".into(), Err(e) => e.to_string() } }
        } else {
            match serde_json::from_value::<crate::api::ResourceDirectory>(o.clone()) { Err(e) => format!("DE {e}"), Ok(mc) => match crate::api::parse::directory(&mc.spec, &[mc.spec.endpoint.clone().unwrap_or_default()]) { Ok(_) => "ok".into(), Err(e) => e.to_string() } }
        }
    }).collect();
    std::fs::write("/tmp/apicp/parsed.json", serde_json::to_string(&parsed).unwrap()).unwrap();
    std::fs::write("/tmp/apicp/res.json", serde_json::to_string(&res).unwrap()).unwrap();
}
