#[test]
fn prints() {
    for crd in super::crds() {
        println!("---\n{}", serde_saphyr::to_string(&crd).unwrap());
    }
}
